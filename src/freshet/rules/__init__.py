"""Channel rules: patterns, options, filters and the user's hooks."""
