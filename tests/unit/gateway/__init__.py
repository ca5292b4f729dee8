"""What stands beside Envoy, without Envoy: a fake Ray Serve and fake replicas answer here."""
