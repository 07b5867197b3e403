"""Server: Storage SCP, Verification SCP, and receiver of the answers about storage commitment."""
