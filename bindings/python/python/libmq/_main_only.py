"""Refuses subinterpreters: threads and brokers are those of the main one, and what both had would end with either."""

_TEXT = "libmq is not for subinterpreters: its threads and brokers are those of the main one"


def _refuse() -> None:
    try:
        from libmq._native import is_main_interpreter
    except ImportError as error:
        # A native module is refused by Python or by PyO3 before it can be asked, in words of theirs.
        if "interpreter" in str(error):
            raise ImportError(_TEXT) from None
        raise
    if not is_main_interpreter():
        raise ImportError(_TEXT)


_refuse()
