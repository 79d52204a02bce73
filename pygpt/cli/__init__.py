"""The commands `pygpt ...` and `gpt-chat`: one module a subcommand, imported when it is called."""
