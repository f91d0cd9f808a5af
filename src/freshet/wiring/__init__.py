"""What `Freshet` is put together from: which engine and store an URL names, what hangs on which URL."""
