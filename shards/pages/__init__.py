"""What every HTML page shares: styles, templates, figures, spelling."""
