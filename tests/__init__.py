"""The tests. Those under unit/ need neither a GPU, nor Ray, nor a network."""
