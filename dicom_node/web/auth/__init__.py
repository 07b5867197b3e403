"""Authentication and authorisation: accounts, OpenID Connect, request checks, the access log."""
