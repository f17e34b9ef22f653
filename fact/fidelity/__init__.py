"""What a network still says when concepts stand in for a layer; how dense concepts are."""
