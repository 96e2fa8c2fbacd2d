"""The `kvblend` command and its subcommands."""
