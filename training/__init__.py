"""Training programs: corpus, VAE, teacher, distillation and evaluation."""
