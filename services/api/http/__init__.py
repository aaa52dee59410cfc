"""HTTP: the server, its bounds, the gate, the routes and their OpenAPI document."""
