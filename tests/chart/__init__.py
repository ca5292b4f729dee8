"""The chart's tests. They render with Helm as a library; what needs a tool from tools/bin skips without it."""
