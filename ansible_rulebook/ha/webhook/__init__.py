"""Event sources that keep what senders were told is accepted."""
