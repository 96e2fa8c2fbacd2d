"""Documents that come in a chat request: laid into its conversation, and known when they come again."""
