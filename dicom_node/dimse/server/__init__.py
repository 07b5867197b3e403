"""Acceptor of associations: Storage SCP, Verification SCP and answers to storage commitment."""
