"""Tests of the VRAM agent: the ledger alone, its parts against the real kernel, and the whole process."""
