"""The dashboard: a Streamlit app that reads the storage of studies and writes nothing."""
