FailoverCommand.main()
