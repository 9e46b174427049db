"""Rival quantizers on the same weights and calibration data; they run in an environment of their own (`make peers`)."""
