"""Training losses shared by the methods."""
