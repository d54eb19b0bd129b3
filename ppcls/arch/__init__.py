"""Networks: backbones, pooling, neck, classifiers, and what loads published weights into them."""
