"""What loads networks: timm, transformers, TorchScript, ONNX; and where weights are searched."""
