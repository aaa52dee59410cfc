"""The audit trail: who did what to which job, key or dead letter, from where and when."""
