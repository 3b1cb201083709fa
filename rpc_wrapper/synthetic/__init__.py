"""What makes synthetic models: known shapes, the tensors and metadata each needs, random weights that compute sanely.

Speed, memory and placement do not depend on a model's values, so these stand in for real ones in tests and benchmarks.
"""
