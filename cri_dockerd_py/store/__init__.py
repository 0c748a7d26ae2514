"""One SQLite database for what an engine cannot hold: intents, specs as they were asked, network attachments."""
