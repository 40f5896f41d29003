from unittest import mock

m = mock.MagicMock(spec=int)
m.x.return_value = 3
print(m.x() if hasattr(m, "x") else "no x", isinstance(m, int), mock.call(1))
n = mock.NonCallableMock()
n.__class__ = dict
print(isinstance(n, dict))
