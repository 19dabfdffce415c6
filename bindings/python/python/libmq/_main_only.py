"""Refuses subinterpreters: threads and brokers are those of the main one, and what both had would end with either."""

from libmq._native import is_main_interpreter

if not is_main_interpreter():
    raise ImportError("libmq is not for subinterpreters: its threads and brokers are those of the main one")
