"""A layer whose seal came to nothing."""

from fs.tree.model import Node
from fs.tree.state import State
from fs.work.workfile import absorb
from sync.state.ballast import is_full


def unlayer(st: State, node: Node) -> bool:
    """A layer that no seal holds takes writes again: what is above it goes into it.

    False if the disk is too full for that: both stay, and show the same as before.
    """
    layer = node.layer
    if layer is None or node.seal_id is not None:
        return True
    layer.unseal()
    if node.work is not None:
        try:
            absorb(layer, node.work)
        except OSError as error:
            layer.seal()
            if is_full(error):
                return False
            raise
        node.work.close()
        st.overlay.drop_file(node.work.id, remove=True)
    node.work, node.layer = layer, None
    st.overlay.put_file(layer)
    st.overlay.put_node(node)
    return True
