"""Dead letters of all services as they report them, and what is asked of them."""
