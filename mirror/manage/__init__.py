"""Operations on one store; copies between stores are in `mirror.transfer`."""
