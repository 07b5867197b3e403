"""Cases that are alike: an index of them, engines that search it, and what the neighbours say together."""
