"""What the README's numbers come from. Each package runs by itself: `python -m benchmarks.<name> --help`."""
