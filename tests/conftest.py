"""What all tests share: how long one example takes is no fault of the code on a machine that is busy."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
