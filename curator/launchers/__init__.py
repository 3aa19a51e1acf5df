"""Where training runs, one module per place behind a literal table."""
