"""For all tests: a slow machine is no failure, and programs that tests start take Ctrl-C."""

import signal

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# A shell's background jobs, and all that they start, would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
