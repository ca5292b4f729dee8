"""Tests that run on any Linux machine in seconds."""
