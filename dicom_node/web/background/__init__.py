"""Threads that run beside the requests: periodic tasks, and the watcher behind the event stream."""
