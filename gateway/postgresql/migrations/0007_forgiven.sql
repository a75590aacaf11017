-- What an operator forgives goes the way of the guesses that it forgives, in one order with them.  In such a
-- row the columns of a guess are empty and it is a right one, which changes nothing in an older gateway.
ALTER TABLE pop3gw.guess ADD COLUMN forgiven jsonb;
