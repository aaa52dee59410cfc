"""What the launcher can launch and at which price: the API's copy, and the plan of a job."""
