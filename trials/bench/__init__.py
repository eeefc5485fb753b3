"""How fast: the engine alone, this server beside the original and beside Python libraries, and the floor below them."""
