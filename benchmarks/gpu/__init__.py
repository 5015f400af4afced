"""`make gpu-check`: everything that only a GPU can tell, in one command and a few minutes."""
