"""The queue: the stored state of queued mail, the retry schedule and delivery status notifications."""
