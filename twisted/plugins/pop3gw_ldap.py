from gateway.app.strcred import LdapCheckerFactory

ldap = LdapCheckerFactory()
