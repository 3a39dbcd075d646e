"""Compilers for devices other than the CPU; one module each, and nothing else imports the compiler that it wraps."""
