"""Read models: the queries behind each page, and what tells browsers that one changed."""
