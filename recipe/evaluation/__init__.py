"""What the trained model can do, measured and written down."""
