from gateway.strcred import LdapCheckerFactory

ldap = LdapCheckerFactory()
