"""API Gateway on the laptop: serves the OpenAPI file that AWS deploys, by the integrations it finds there."""
