"""A trained denoiser as what is used elsewhere: ONNX, safetensors, a torch program, diffusers, a page in the browser."""
