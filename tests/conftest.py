"""Names of test cases that are the same in every process, so that the suite can be spread over several."""


def pytest_make_parametrize_id(config, val, argname):
    """Functions go by their names, not by where they lie in memory."""
    return getattr(val, "__name__", type(val).__name__) if callable(val) else None
