"""LLM servers and the journal of what they replied: what generate and mine's judge share."""
