"""One machine runs everything: functions in worker processes, with limits that hold; follow-ups; and the schedule."""
