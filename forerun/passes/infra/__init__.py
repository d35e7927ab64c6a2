"""What passes are made of, and what runs them: the pass itself, the registry, pipelines, the manager, summaries."""
