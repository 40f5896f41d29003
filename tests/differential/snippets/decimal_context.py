import decimal
import fractions

print(decimal.getcontext(), decimal.Decimal(1) / 3, fractions.Fraction(1, 3))
print(decimal.Decimal(1) / 0)
