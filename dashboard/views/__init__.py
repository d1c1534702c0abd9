"""One page each. The folder is not called `pages`, which Streamlit would read by itself."""
